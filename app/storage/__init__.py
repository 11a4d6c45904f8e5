"""Decides: what a DittoServer is, what is wrong with one, what is filled in. No I/O, no clock, no framework."""

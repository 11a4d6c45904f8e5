"""The only door to the DittoFS servers: asks them for their health, and speaks their REST API as their admin."""

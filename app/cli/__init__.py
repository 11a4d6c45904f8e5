"""The commands of `dittofs-operator`, one module each; a module is imported only when its command runs."""

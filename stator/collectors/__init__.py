"""The built-in collectors, one file each, named as in STTR_COLLECTORS."""

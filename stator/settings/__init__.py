"""How settings are declared, read and written."""

"""How settings are declared, read and shown."""

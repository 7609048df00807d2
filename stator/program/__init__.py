"""What the program, unlike an application with Stator in it, says of itself."""

"""What the project needs around itself: the local stack (`tools.stack`), the demo. Not part of the package."""

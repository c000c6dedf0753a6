"""What is served: teachers that explain, whose weights can be exchanged, and the student that scores."""

"""What compares: outputs with a truth, later conditions with each other."""

"""What needs Ray."""

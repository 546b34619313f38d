"""What ``LocalTriton`` is made of: the environment, the model repository, the server process."""

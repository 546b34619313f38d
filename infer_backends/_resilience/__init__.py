"""Backends made of Backends, that keep a model answering."""

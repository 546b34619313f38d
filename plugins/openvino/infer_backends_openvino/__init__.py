"""OpenVINO in this process, for infer_backends."""

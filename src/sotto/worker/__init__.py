"""The RunPod contract."""

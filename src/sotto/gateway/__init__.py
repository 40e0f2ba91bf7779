"""RunPod's two faces on one machine: jobs of clients in, work for the SDK's workers out."""

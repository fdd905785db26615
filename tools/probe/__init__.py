"""What descriptors learnt on other images are worth on a small set with weak labels: linear probe and fine-tuning."""

"""What manufacture gives a device: partition table, slot image, data partition, first record, boot environment."""

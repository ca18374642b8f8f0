"""What a device can be asked, whoever asks: the one interface between the surfaces and the engine."""

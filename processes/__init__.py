"""The processes of ModelPilot, each with everything it is made of. The only place that wires adapters to ports."""

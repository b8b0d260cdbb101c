"""Programs that go along with an exported model and run without tuplet."""

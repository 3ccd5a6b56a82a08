"""`tome-audio fewshot`: episodes to train on, tasks to be scored on, and settings found on validation classes."""

"""A trained model in the format of Hugging Face."""

"""EPITOME (Sharma et al., EMNLP 2020): how strongly a response reacts, interprets and explores."""

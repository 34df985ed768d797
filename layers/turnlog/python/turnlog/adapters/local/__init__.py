"""Stores of one machine: sessions under a lock, in memory or on files. One protocol decides for both."""

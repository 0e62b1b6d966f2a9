"""Images as networks see them: decoding, resizing, cropping, normalising by a record."""

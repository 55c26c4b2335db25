"""Where images come from: prepared TFDS sets, embedded sets, decoding, builders."""

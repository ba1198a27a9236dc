"""The work of each kind of job; a kind enters by the entry-point group ``modelport.jobs``."""

"""What the kinds of job do: each is a plug-in of the group ``modelport.jobs``, run in a process of its own."""

"""What a bundle carries besides the model: runners and a page, copied as they are. They import nothing of Modelport."""

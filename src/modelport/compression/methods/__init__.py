"""The methods, one file each; what they are made of lies in the rooms beside."""

"""What requests and answers hold: the service's models, which its client uses too."""

"""What is done with variables: noted down, and sent in one run when somebody looks; or traced as a program."""

#!/usr/bin/env python
#$ -S /usr/bin/python
#$ -cwd
print("hello")

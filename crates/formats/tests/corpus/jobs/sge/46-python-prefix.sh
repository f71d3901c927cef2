#!/usr/bin/env python
#$ -S /usr/bin/python
#$ -l arch=lx-amd64,os=linux,num_proc=8
#$ -l hostname="node1|node2"
#$-N glued
# $ -N spaced
import sys

#!/bin/bash
#$ -l matlab=1,h=node1|node2
#$ -A chem -P project -p -100
#$ -ar 12 -js 5 -R y -w e
#$ -ac a=b -binding linear:4 -ckpt none
./run

#!/bin/bash
#BSUB	-J	tabs	-n	3
#BSUB -q short -W 10 -o "out put.%J" -e 'err put.%J' # all in one
#BSUB   -R   'rusage[mem=100]'
#BSUB
./x

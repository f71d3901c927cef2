#!/bin/bash
#BSUB -w 'exit(88,0) || exit("88job",!=0) || (exit(90, <128) && ended(91))'
#BSUB -ti
#BSUB -o o
./repair

#!/bin/bash
#BSUB -n 16
#BSUB -R "span[ptile='!,TypeA:8,TypeB:4']"
#BSUB -R "span[hosts=3]"
#BSUB -R "span[stripe=2]"
#BSUB -R "span[ptile=0]"
#BSUB -o o
./x

#!/bin/bash
#BSUB -w "numdone(55, > 5) || (exit(56, >= 3) && !started(57))"
#BSUB -ti
#BSUB -o o
./merge

#!/bin/bash
#BSUB -R "select[mem>1000] && rusage[mem=1000]"
#BSUB -R "select[avx2] || select[avx512]"
#BSUB -R "{select[a]}|| {select[b]}@30"
#BSUB -R "rusage[mem=10||mem=20]"
#BSUB -o o
./x

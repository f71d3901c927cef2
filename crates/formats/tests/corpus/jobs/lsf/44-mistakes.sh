#!/bin/bash
#BSUB -n four
#BSUB -W 1-00:00:00
#BSUB -R "rusage[mem=lots]"
#BSUB -R "span[hosts=2"
#BSUB -nosuch
./x

#!/bin/bash
#BSUB -Is
#BSUB -E "prepare"
#BSUB -f "a > b"
#BSUB -pack jobs
bash

#!/bin/bash
#BSUB -cwd "/scratch/$USER/run/%J_%I"
#BSUB -outdir "/scratch/%U/out"
#BSUB -J "part[1-4]"
#BSUB -o log.%I
./x

#!/bin/bash
#SBATCH --comment=three\ words\ here
#SBATCH --job-name=run#12
#SBATCH	--output="out #1/%x.log"	--error='it is # kept'
#SBATCH --account=a"b c"d
./run

#!/bin/bash
#SBATCH --job-name='my job #3'
#SBATCH --comment "it says \"go\""
#SBATCH --export=ALL,TITLE="a b",EMPTY=
#SBATCH --output="dir with blank/%j.out"
echo "$TITLE"

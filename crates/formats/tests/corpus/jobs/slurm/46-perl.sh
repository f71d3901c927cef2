#!/usr/bin/perl -w
#SBATCH --job-name="parse logs"
#SBATCH --mem=500M
#SBATCH --input=/dev/null
use strict;
print "task $ENV{SLURM_JOB_ID}\n";

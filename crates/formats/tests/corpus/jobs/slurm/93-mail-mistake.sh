#!/bin/bash
#SBATCH --mail-type=ende
#SBATCH --mail-user=ops@example.org
true

#!/bin/bash
#SBATCH -N 4
#SBATCH -t 40
#BB create_persistent name=alpha capacity=1TB access=striped type=scratch
#DW persistentdw name=alpha
#DW stage_in source=/lus/in destination=$DW_PERSISTENT_STRIPED_alpha/in type=directory
srun ./analyse "$DW_PERSISTENT_STRIPED_alpha/in"

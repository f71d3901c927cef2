#!/bin/bash
#SBATCH --container-id=c1
#SBATCH --runtime=oci
#SBATCH --resources=flat:2
#SBATCH --external
#SBATCH --ntasks-per-tres=4
#SBATCH --licenses=fluent:4|starccm:4
#SBATCH --tres-per-task=mem=4G
#SBATCH --tres-per-task=license/ansys=1
srun ./app

#!/usr/bin/env -S julia --threads=16
#SBATCH --cpus-per-task 16
#SBATCH --time 0-3
#SBATCH --mem 32GB
#SBATCH --output /home/ada/out/%u-%x-%j.log
using LinearAlgebra
println(BLAS.get_num_threads())

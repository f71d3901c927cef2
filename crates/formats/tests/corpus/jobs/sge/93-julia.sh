#!/usr/bin/env julia
#$ -S /opt/julia/bin/julia
#$ -pe smp 16
#$ -l mem_free=3G
#$ -v JULIA_NUM_THREADS=16,JULIA_DEPOT_PATH=/scratch/depot
#$ -o ising.out -e ising.err
using Random
Threads.@threads for beta in 0.1:0.05:1.0
    println(beta)
end

#!/bin/bash
#PBS	-N	tabs
	#PBS -l	nodes=2:ppn=4,walltime=10:00
#PBS		-j	oe	# both in one
#	PBS -q long
#pbs -q short
cd $PBS_O_WORKDIR; ./tabs

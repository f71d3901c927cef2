#!/bin/bash
#PBS -l nodes=n001:ppn=4+n002:ppn=2
#PBS -l naccesspolicy=singlejob
#PBS -d /work/me
#PBS -k oe
./run

#!/bin/sh
#PBS -N 2nd_run_of_a_model_with_a_name_longer_than_fifteen
#PBS -l nodes=1:ppn=1
./model

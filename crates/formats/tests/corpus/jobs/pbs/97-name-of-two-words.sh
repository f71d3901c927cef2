#!/bin/sh
#PBS -N my job
#PBS -q a queue
./model

#!/bin/sh
#PBS -W group_list=physics@head,chem
#PBS -W umask=0077,sandbox=PRIVATE
#PBS -Wblock=true
#PBS -W run_count=3
#PBS -W release_nodes_on_stageout=True
#PBS -W tolerate_node_failures=job_start
id
